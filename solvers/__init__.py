"""Linear and nonlinear solvers in which each step has a dtype of its own (to come)."""

if __name__ != "jaxsci.solvers":
    raise ImportError(
        "write `import jaxsci.solvers`: `solvers` is part of jaxsci, not a package of its own"
    )
