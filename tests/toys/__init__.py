"""Three toy tasks that have nothing in common with text classification; they prove the seam, and live in tests alone.

`series` maps windows of floats to a horizon of floats; `tags` labels the words of a text in overlapping windows, several
features an example; `echo` answers by generation. `python -m tests.toys NAME ...` is `python -m kd NAME ...` with them.
"""
