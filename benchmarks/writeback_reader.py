"""One reader of published lists on PostgreSQL, until stdin closes. Imports little, so that it starts at once.

In: URL, a number to draw users by, how many users there are. Out: "ready"; at the end a line of JSON: when each read
began, how long it took (s), and how many results were mixed: rows of more than one run, or not all rows of each user.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import psycopg

K, ASKED = 20, 10
READ = "SELECT run_id, product_id FROM recommendations WHERE placement = 'default' AND user_id = ANY(%s)"


def main() -> int:
    url, seed, users = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    over, dice = threading.Event(), np.random.default_rng(seed)
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    began: list[float] = []
    took: list[float] = []
    mixed = 0
    with psycopg.connect(url, autocommit=True) as connection:
        print("ready", flush=True)
        while not over.is_set():
            wanted = [f"u{user:06d}" for user in dice.choice(users, ASKED, replace=False)]
            started = time.time()
            rows = connection.execute(READ, [wanted]).fetchall()
            took.append(time.time() - started)
            began.append(started)
            mixed += len({run for run, _ in rows}) != 1 or len(rows) != ASKED * K
            time.sleep(0.002)  # readers, not a storm: they must not take the processor from the server
    print(json.dumps({"began": began, "took": took, "mixed": mixed}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
