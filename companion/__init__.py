"""The console command `companion`: lists and runs the programs of all chapters, and the tour."""
