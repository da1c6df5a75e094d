"""``python -m rtface`` is ``rtface``."""

from rtface.cli import main

if __name__ == "__main__":
    main()
