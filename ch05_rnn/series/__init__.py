"""Forecasting series; read in this order.

forecast        the program: an LSTM compared with seasonal-naive and linear autoregressive baselines
autoregression  the linear baseline, by least squares
"""
