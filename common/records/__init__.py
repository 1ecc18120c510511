"""Recorded results and the tables made from them.

ledger        record a command with several seeds; render the tables
tables        tables of the pages, from results/
pictures      figures of recorded runs for the pages
device_table  training steps of every chapter on every device
peer_table    comparisons with other software
"""
