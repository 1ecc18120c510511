"""Series of numbers in time.

series   an invented series with a known best forecast, or a column of a CSV file
delayed  a series whose responses depend on cues long before, with a known best forecast
"""
