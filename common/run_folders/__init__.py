"""Run folders: create and lock them; list, compare and remove them, and load their models (`common.runs`).

folder      create a run folder, find the newest
lock        lock a run folder for one process
records     read run folders: settings, metrics, state
listing     list runs as a table or as JSON
comparison  settings, metrics and curves of several runs side by side
removal     remove old runs
loading     load the model of a run
events      event files for TensorBoard
"""
