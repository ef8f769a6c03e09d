"""Generated: readings of water pumps and their state, of which 78 % are `normal`.

Each state is a way of running: `worn` raises vibration in proportion to speed, `leaking` lowers flow for the power
drawn, `blocked` raises pressure for the flow, `bearing` heats up with load. The faults start small, so they show
in ratios of readings rather than in any one of them. Twelve percent of the pressures are missing.
"""

import numpy as np
import pandas as pd

from trellis.benchmarks.mle.synthesis import deal, drop_out

ROWS, TEST_ROWS, SEED = 1800, 700, 20404
STATES = np.array(["normal", "worn", "leaking", "blocked", "bearing"])


def prepare(raw, public, private):
    rng = np.random.default_rng(SEED)
    state = np.searchsorted([0.78, 0.87, 0.93, 0.97], rng.random(ROWS))
    degree = 0.25 + 0.75 * rng.random(ROWS)
    noise = rng.standard_normal((6, ROWS))
    site = rng.integers(0, 4, ROWS)
    speed = 900 + 900 * rng.random(ROWS)
    load = 0.4 + 0.6 * rng.random(ROWS)

    def when(index, size):
        return np.where(state == index, size * degree, 0)

    power = speed / 1000 * (3 + 6 * load) * (1 + 0.04 * noise[0])
    flow = 11 * power * (1 - when(2, 0.4)) * (1 - when(3, 0.25)) * (1 + 0.05 * noise[1])
    pressure = (1.2 + 0.00000045 * speed**2 * load) * (1 + when(3, 0.6)) * (1 + 0.05 * noise[2])
    vibration = speed / 600 * (1 + when(1, 0.9)) * (1 + 0.13 * noise[3])
    ambient = 18 + 6 * noise[4] + 2 * site
    heat = ambient + 32 * load * (1 + when(4, 0.6)) + when(1, 4) + 2.2 * noise[5]
    rows = pd.DataFrame(
        {
            "site": np.array(["north", "east", "south", "west"])[site],
            "speed_rpm": np.round(speed),
            "power_kw": np.round(power, 2),
            "flow_lpm": np.round(flow, 1),
            "pressure_bar": drop_out(np.round(pressure, 2), rng.random(ROWS) < 0.12),
            "vibration_mms": np.round(vibration, 2),
            "ambient_c": np.round(ambient, 1),
            "bearing_c": np.round(heat, 1),
            "age_months": rng.integers(1, 120, ROWS),
            "state": STATES[state],
        }
    )
    deal(rows, target="state", guess="normal", test_rows=TEST_ROWS, seed=SEED, public=public, private=private)
