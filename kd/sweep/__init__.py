"""Studies and cascades: many trainings of one comparison, each with its control.

A **study** crosses options: its `design` is read from a file and unfolded into **cells**, each one training (`cells`);
`study_plan` checks them before long work, `study_run` carries them out, `study_result` compares. A **cascade** distils
along a chain of models: `cascade_plan`, `cascade_run` and `cascade_result` likewise. `costs` measures each architecture
once, and `workers` are the processes that share the work, also that of a search.
"""
