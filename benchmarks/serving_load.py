"""Measures exports behind the local server under load; serving.py --load runs it.

Each export of bytes gets an export.serve of its own, and 1, 4 and 16 clients ask it
over gRPC, one photograph a request, each as soon as it has its answer. The servers stay
up, and their turns alternate.
"""

import concurrent.futures
import itertools
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import serving_exports
import tables
from serving_exports import SIDE

# name -> export
SERVED = {
    "bytes and `map_fn`": "naive",
    "ours, float32": "ours_float32",
    "ours, bfloat16": "ours_bfloat16",
}
CLIENTS = (1, 4, 16)
SECONDS = 4.0


def start_server(folder, export):
    """export.serve of one export; the process and the address of gRPC."""
    export_dir = pathlib.Path(folder, f"served_{export}")
    export_dir.mkdir()
    pathlib.Path(folder, export).rename(export_dir / "1")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "export.serve", f"--export_dir={export_dir}"),
            *("--port=0", "--rest_port=0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if found := re.search(r"gRPC on (\S+),", line):
            return process, found[1]
    raise RuntimeError(f"{export} is not served")


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def ask_for_a_while(address, images, clients, seconds):
    """Seconds of each request of some clients, one thread and one channel for each."""
    import grpc

    from export.remote.transports import CHANNEL_OPTIONS, predict_by_grpc

    stop = time.monotonic() + seconds

    def ask(first):
        took = []
        with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            for index in itertools.count(first):
                start = time.monotonic()
                if start > stop:
                    return took
                predict_by_grpc(channel, [images[index % len(images)]], 60.0)
                took.append(time.monotonic() - start)

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [each for found in pool.map(ask, range(clients)) for each in found]


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]


def take_load_turn(process, address, images, clients):
    before, start = cpu_seconds(process), time.monotonic()
    took = ask_for_a_while(address, images, clients, SECONDS)
    seconds = time.monotonic() - start
    return {
        "rate": len(took) / seconds,
        "p50": 1e3 * percentile(took, 50),
        "p99": 1e3 * percentile(took, 99),
        "cores": (cpu_seconds(process) - before) / seconds,
    }


def measure(photographs, backbone, repeats):
    import numpy as np

    header, load_average = tables.describe_machine("grpcio"), os.getloadavg()
    served = dict(SERVED)
    if "without" in header["machine"]:
        del served["ours, bfloat16"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, serving_exports.__file__, backbone, folder],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        serving_exports.write_inputs(photographs, folder)
        images = list(np.load(f"{folder}/photographs.npy", allow_pickle=True))
        servers = {
            name: start_server(folder, export) for name, export in served.items()
        }
        turns = {(name, clients): [] for clients in CLIENTS for name in served}
        for address in (address for _, address in servers.values()):
            ask_for_a_while(address, images, max(CLIENTS), SECONDS)  # warms up
        for clients, _ in itertools.product(CLIENTS, range(repeats)):
            for name, (process, address) in servers.items():
                turn = take_load_turn(process, address, images, clients)
                turns[name, clients].append(turn)
        for process, _ in servers.values():
            process.terminate()
            process.wait()
    about = (
        f"{backbone} at {SIDE} px behind export.serve, gRPC, one photograph a request; "
        f"{repeats} interleaved turns of {SECONDS:.0f} s, median and in brackets "
        "smallest and largest, ratios within a turn. The clients run on the same "
        "machine. Cores are those that the server kept busy. The load average before "
        f"the run was {load_average[0]:.1f}."
    )
    save(about, header, turns, load_average)


def save(about, header, turns, load_average):
    rows = []
    for (name, clients), found in turns.items():
        plain = turns[next(iter(SERVED)), clients]
        ratios = [
            own["rate"] / other["rate"] for own, other in zip(found, plain, strict=True)
        ]
        rows.append(
            [
                f"{name}, {clients} client{'s' if clients > 1 else ''}",
                *(
                    tables.spread([turn[key] for turn in found], digits)
                    for key, digits in (("rate", 1), ("p50", 1), ("p99", 1))
                ),
                tables.spread(ratios, 2),
                tables.spread([turn["cores"] for turn in found], 2),
            ]
        )
    tables.save(
        "serving_load",
        about=about,
        header=header,
        columns=[
            *("export and clients", "requests/s", "p50, ms", "p99, ms"),
            *("x `map_fn`", "server's cores"),
        ],
        rows=rows,
        samples={
            "load_average": load_average,
            **{f"{name}, {clients}": found for (name, clients), found in turns.items()},
        },
    )
