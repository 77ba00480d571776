"""A field over time as an animation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import ArrayLike, Float

from ._style import STYLE, host, pyplot, require_some


def animate_fields(
    x: Float[ArrayLike, " nx"],
    y: Float[ArrayLike, " ny"],
    fields: Mapping[str, Float[ArrayLike, "times nx ny"]],
    path: str | Path,
    *,
    t: Float[ArrayLike, " times"] | None = None,
    frames_per_second: int = 8,
    u_label: str = "solution $u$",
) -> Path:
    """Writes a GIF of fields side by side, on one scale, through all times.

    **Arguments:**

    - `x`, `y`: coordinates of the points.
    - `fields`: name to field, e.g. the truth and a prediction.
    - `path`: of the file.
    - `t`: the times, for the title.
    - `frames_per_second`, `u_label`: as their names say.

    **Returns:** the path.

    **Raises:** `ValueError` for unequal shapes; `ImportError` without matplotlib.

    !!! example
        >>> import numpy as np, tempfile
        >>> x, u = np.linspace(0.0, 1.0, 4), np.zeros((2, 4, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     animate_fields(x, x, {"truth": u}, f"{folder}/u.gif").suffix
        '.gif'
    """
    where = "animate_fields"
    plt = pyplot(where)
    from matplotlib.animation import FuncAnimation, PillowWriter

    require_some(where, "fields", fields)
    x, y = host(where, "x", x), host(where, "y", y)
    frames = len(np.asarray(next(iter(fields.values()))))
    shape = (frames, x.size, y.size)
    drawn = {name: host(where, f"fields[{name!r}]", u, shape) for name, u in fields.items()}
    times = None if t is None else host(where, "t", t, (frames,))
    low, high = min(u.min() for u in drawn.values()), max(u.max() for u in drawn.values())
    with plt.rc_context(STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        size = (2.9 * len(drawn) + 0.9, 3.1)
        figure, axes = plt.subplots(
            1, len(drawn), figsize=size, squeeze=False, layout="constrained"
        )
        images = []
        for ax, (name, u) in zip(axes[0], drawn.items(), strict=True):
            settings = dict(cmap="viridis", vmin=low, vmax=high, shading="nearest")
            images.append(ax.pcolormesh(x, y, u[0].T, **settings))
            ax.set_title(name)
            ax.set_aspect("equal")
            ax.set_xlabel("$x$")
        axes[0, 0].set_ylabel("$y$")
        figure.colorbar(images[0], ax=axes[0], label=u_label, pad=0.015, aspect=14)
        title = figure.suptitle("", fontsize=9)

        def show(frame: int) -> list:
            for image, u in zip(images, drawn.values(), strict=True):
                image.set_array(u[frame].T)
            title.set_text("" if times is None else f"$t$ = {times[frame]:.2f}")
            return images

        animation = FuncAnimation(figure, show, frames=frames, blit=False)
        animation.save(Path(path), writer=PillowWriter(fps=frames_per_second), dpi=80)
        plt.close(figure)
    return Path(path)
