"""Three toy tasks that have nothing in common with text classification; they prove the seam, and live in tests alone.

`series` maps windows of floats to a horizon of floats; `tags` labels the words of a text in overlapping windows, so
that an example has several features; `echo` answers by generation. `python -m tests.toys NAME ...` does what
`python -m kd NAME ...` does, with these tasks among kd's.
"""
