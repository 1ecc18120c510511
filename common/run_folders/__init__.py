"""Run folders as a whole: list, compare and remove them, and load their models; the command line is `common.runs`.

records     read run folders: settings, metrics, state
listing     list runs as a table or as JSON
comparison  settings, metrics and curves of several runs side by side
removal     remove old runs
loading     load the model of a run
events      event files for TensorBoard
"""
