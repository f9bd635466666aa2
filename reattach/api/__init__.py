"""The vocabulary that every process and the fixture library share.

Values only: nothing here does I/O and nothing here imports another package of this project.
"""
