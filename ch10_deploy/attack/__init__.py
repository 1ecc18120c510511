"""The server under load and under attack; read in this order.

serving         the program: throughput and latency under load
fuzzing         the program: malformed requests and attacks
attacks         the attacks on connections
probing         latency of /healthz and memory, measured from another process
server_process  a server in a separate process
"""
