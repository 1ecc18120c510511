"""The tour: run the core programs of every chapter briefly; see companion/tour.py."""

from companion.tour import main

if __name__ == "__main__":
    main()
