"""The search of hyper-parameters with Optuna: on one process, on several, or on machines that share a storage.

Words of this folder, each with one meaning:

- a **slot** is one trial that is wanted; an **attempt** at it may fail, and another is made (`retries`);
- a **lease** (`RunningTrial`) is a trial that this process runs: nobody else may end it while it gives signs of life;
- an **arm** is what is tuned, the distilled student or its control; each has two Optuna studies, its trials and its
  **finals**, the best of them retrained on fresh seeds;
- one process **leads**: it queues what is missing and concludes; the others join it. The study `NAME-lead` has one slot
  for each lead, so that of several processes one gets it.

Order of reading: `prepare` (what the search is), `leading` (who leads, and the round it makes), `schedule` (what is
queued and retrained), `trial` (running one), `result` (the winner). Below them: `optuna_study`, `lease`, `retries` and
`storage`. `progress` and `page` are what a person sees.
"""
