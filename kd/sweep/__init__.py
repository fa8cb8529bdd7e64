"""Studies and cascades: many trainings of one comparison, each with its control.

A **study** crosses options: its `design` is read from a file and unfolded into **cells**, each one training (`cells`);
`study_plan` checks them before long work, `study_run` carries them out and reports. A **cascade** distils along a chain
of models: `cascade_plan` and `cascade_run` likewise. `compared` compares the trainings of either; `workers` are the
processes that share the work, also that of a search.
"""
