"""Studies and cascades: many trainings of one comparison, each with its control.

A **study** crosses options: its `design` is read from a file and unfolded into **cells**, each one training (`cells`);
`study` checks them before long work, carries them out and reports. So does `cascade`, along a chain of models.
`compared` compares the trainings of either; `workers` are the processes that share the work, also that of a search.
"""
