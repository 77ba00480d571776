"""Neural operators that obey their boundary conditions, in folders by what they are."""

if __name__ != "jaxsci.operators":
    raise ImportError(
        "write `import jaxsci.operators`: `operators` is part of jaxsci, not a package of its own"
    )
