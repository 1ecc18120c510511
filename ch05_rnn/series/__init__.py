"""Forecasting series; read in this order.

forecast        the program: an LSTM compared with an MLP, a linear autoregression and a seasonal-naive baseline
networks        the LSTM and the MLP
autoregression  the linear baseline, by least squares
"""
