"""Time series.

series   a generated series with a known best forecast, the oil temperature of ETTh1, or a column of a CSV file
delayed  a generated series whose responses depend on much earlier cues, with a known best forecast
"""
