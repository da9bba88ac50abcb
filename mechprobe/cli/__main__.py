"""`python -m mechprobe.cli`."""

from mechprobe.cli.main import main

if __name__ == "__main__":
    main()
