"""The HTTP server; read in this order.

app          the application: routes, page, probes, errors
endpoints    requests and responses of each model
pictures     requests and responses of the models that take whole pictures
gate         API key, request limits, time limits and metrics
connections  limits for request heads, pipelines and connections
access       the access log, with request ids
refusal      the exception for a refused request, with reason and status
"""
