"""Tables with columns of numbers and of categories; read in this order.

cells    the cells of a CSV file as text, by column
table    numbers and categories, and the rows of a table
loading  find and load a table by name, or a CSV file with a target column
houses   invented house sales with a known best possible prediction
"""
