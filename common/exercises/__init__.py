"""Exercises that check themselves: `python -m ch01_graphs.exercises`.

exercise      an exercise: the file with the task, the reference, and the cases to try, from simple to hard
arguments     small tensors for these cases
check         load the reader's file, call the function, find the smallest counterexample
board         verdicts of measured exercises, and their leaderboard
compare       compare two results, and print values
time_limit    stop a function that does not end
command       the command line: table, check, hint, solution
"""
