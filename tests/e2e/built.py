"""What the build under test has, as CMake found it when it was configured."""


def has_ucx(build):
    """Whether it has the ucx channel. Where nothing says so yes: then tests fail, and are not left
    out."""
    try:
        lines = (build / "CMakeCache.txt").read_text().splitlines()
    except FileNotFoundError:
        return True
    return "BATON_HAVE_UCX:INTERNAL=1" in lines or not any(
        line.startswith("BATON_HAVE_UCX:") for line in lines)
