"""Film ratings; read in this order.

collection  types: ratings, and a collection with films and splits
loading     find and load a collection by name
movielens   MovieLens and Netflix files
planted     a generated collection with a known noise floor
titles      search of films by title
"""
