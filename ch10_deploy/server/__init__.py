"""The HTTP server; read in this order.

app          the application: routes, page, probes, errors
endpoints    requests and responses of each model
gate         keys, request limits, time limits and metrics
connections  limits for request heads, pipelines and connections
access       the access log, with request ids
refusal      an answer that says why a request is refused
"""
