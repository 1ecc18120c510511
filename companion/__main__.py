"""`python -m companion` is the console command `companion`."""

from companion.console import main

if __name__ == "__main__":
    main()
