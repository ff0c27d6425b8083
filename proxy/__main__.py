"""`python -m proxy` is `remuxd`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
