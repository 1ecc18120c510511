"""Film ratings; read in this order.

collection  the types: ratings and a collection with films and splits
loading     find and load a collection by name
movielens   MovieLens and Netflix files
planted     an invented collection with a known noise floor
titles      films found by what people type
"""
