#!/usr/bin/env python3
"""Measures the tool `sss` with trees of files: see docs/benchmarks.md, "Trees of files".

    files.py trees SSS           a tree of 50,000 files: `sss get` and `rsync -a`, in turn
    files.py kills SSS           several `sss get` into one place, killed and begun again
    files.py interruptions SSS   the time that each command takes to end after SIGINT

SSS is the program, of a release build. Everything is below --dir, and is removed at the end.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path
from stat import S_ISREG


def make_tree(root, sizes, each=500):
    """Makes files of these sizes, so many in each directory."""
    noise = random.Random(1).randbytes(1 << 20)
    for number, size in enumerate(sizes):
        directory = root / f"{number // each:03}"
        if number % each == 0:
            directory.mkdir(parents=True)
        content = b"%016d" % number + noise * (size // len(noise) + 1)
        (directory / f"file-{number:05}").write_bytes(content[:size])


def contents(root):
    """Sizes, times and modes of all files, by path."""
    found = {}
    for above, _, names in os.walk(root):
        for name in names:
            path = os.path.join(above, name)
            stat = os.lstat(path)
            if not S_ISREG(stat.st_mode):
                continue
            found[os.path.relpath(path, root)] = (stat.st_size, stat.st_mtime_ns, stat.st_mode)
    return found


class Server:
    """`sss serve`, and its log."""

    def __init__(self, args, directory, *more):
        command = [args.sss, "serve", directory, "--public", "--bind", "127.0.0.1:0", "--json", *more]
        self.log = open(args.dir / "server.log", "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.DEVNULL, env=args.env)
        self.target = None
        while self.target is None:
            time.sleep(0.01)
            self.log.seek(0)
            line = self.log.readline()
            if line.endswith("\n"):
                self.target = json.loads(line)["target"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def timed(command, env):
    """Seconds on the clock, and of processors, that a command takes."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return after.elapsed - before.elapsed, cpu


def trees(args):
    draw = random.Random(2)
    sizes = [min(int(draw.lognormvariate(7.6, 1.3)), 1 << 20) for _ in range(args.files)]
    source = args.dir / "source"
    make_tree(source, sizes)
    print(f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, the largest {max(sizes)} bytes")
    server = Server(args, source)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = args.dir / "rsyncd.conf"
    config.write_text(f"use chroot = no\naddress = 127.0.0.1\n[tree]\npath = {source}\nread only = yes\n")
    daemon = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--port={port}", f"--config={config}"])
    time.sleep(0.5)
    commands = {
        "sss get": lambda to: [args.sss, "get", server.target, to],
        "rsync -a": lambda to: ["rsync", "-a", f"rsync://127.0.0.1:{port}/tree/", f"{to}/"],
    }
    expected = contents(source)
    times = {(name, kind): [] for name in commands for kind in ("new", "nothing new")}
    for _ in range(args.rounds + 1):
        for name, command in commands.items():
            to = args.dir / "copy"
            for kind in ("new", "nothing new"):
                times[name, kind].append(timed(command(str(to)), args.env))
            assert contents(to) == expected, name
            shutil.rmtree(to)
    daemon.terminate()
    daemon.wait()
    server.stop()
    for kind in ("new", "nothing new"):
        medians = {}
        for name in commands:
            # The first round warms up.
            seconds = [seconds for seconds, _ in times[name, kind][1:]]
            cpu = statistics.median(cpu for _, cpu in times[name, kind][1:])
            medians[name] = statistics.median(seconds)
            shown = " ".join(f"{s:.2f}" for s in seconds)
            print(f"{kind}: {name}: median {medians[name]:.2f} s ({shown}), client's CPU {cpu:.2f} s")
        print(f"{kind}: sss / rsync: {medians['sss get'] / medians['rsync -a']:.2f}")


def present(root):
    """Bytes of files that are there, the beginnings of unfinished ones included."""
    return sum(size for size, _, _ in contents(root).values()) if root.exists() else 0


def kills(args):
    draw = random.Random(3)
    sizes = [40_000_000, 15_000_000, 8_000_000, 3_000_000] * 3 + [draw.randrange(60_000) for _ in range(800)]
    source = args.dir / "source"
    make_tree(source, sizes, each=100)
    total, expected = sum(sizes), contents(source)
    print(f"{len(sizes)} files, {total} bytes")
    for count in (2, 4, 8):
        server = Server(args, source)
        to = args.dir / "copy"
        # A server has room for 64 sessions of one peer, also of those that are gone without a word, for a while.
        keys = [args.dir / f"key-{count}-{number}" for number in range(count)]
        for key in keys:
            subprocess.run([args.sss, "id", "--new", "--file", key], check=True, stdout=subprocess.DEVNULL, env=args.env)
        command = [args.sss, "get", server.target, str(to), "--json", "--limit-rate", args.rate, "--identity"]
        killed = ended = whole = lost = twice = 0
        while killed < args.moments or to.exists():
            before = present(to)
            gets = [subprocess.Popen([*command, key], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=args.env)
                    for key in keys]
            if killed < args.moments:
                time.sleep(draw.uniform(0.05, 0.6))
                for get in gets:
                    get.kill()
                killed += 1
            moved = 0
            for get in gets:
                out = get.communicate()[0]
                if get.returncode == -signal.SIGKILL:
                    continue
                done = [json.loads(line) for line in out.splitlines() if b'"done"' in line]
                assert get.returncode == 0 and done, (get.returncode, out)
                ended += 1
                moved += done[0]["bytes_moved"]
            lost += max(before - present(to), 0)
            if all(get.returncode == 0 for get in gets):
                assert contents(to) == expected, "the tree is not right"
                twice += moved - (total - before)
                whole += 1
                shutil.rmtree(to)
        server.stop()
        print(f"{count} at once: killed at {killed} moments; {ended} ended by themselves, each with success; "
              f"{whole} times all did, and the tree was right; bytes that were there and are lost: {lost}; "
              f"bytes that were there and moved again: {twice}")


def interruptions(args):
    source, big = args.dir / "source", args.dir / "big"
    make_tree(source, [random.Random(n).randrange(200_000) for n in range(3000)], each=100)
    big.mkdir()
    with open(big / "large", "wb") as large:
        for n in range(20):
            large.write(random.Random(n).randbytes(1 << 20) * 50)
    server = Server(args, args.dir, "--write")
    copy = args.dir / "copy"
    shutil.copytree(big, args.dir / "same")
    os.utime(args.dir / "same/large", (1, 1))
    eid, address = server.target.split("@")
    commands = {
        "get": ["get", f"{server.target}/source", copy],
        "get, comparing 1 GB": ["get", f"{server.target}/big", args.dir / "same"],
        "get to standard output": ["get", f"{server.target}/big/large", "-"],
        "put": ["put", source, f"{server.target}/target/"],
        "put, comparing 1 GB": ["put", big, f"{server.target}/same"],
        "put of standard input": ["put", "-", f"{server.target}/stdin"],
        "ls -r": ["ls", "-r", server.target],
        "ping": ["ping", server.target, "-c", "1000", "-i", "0.01"],
        "ping of nobody": ["ping", "127.0.0.1:9"],
        "services": ["services", server.target],
        "serve": ["serve", source, "--bind", "127.0.0.1:0"],
        "demo": ["demo"],
        "id": ["id"],
    }
    longest_of_all = 0
    for name, command in commands.items():
        longest, codes = 0, set()
        for moment in range(20):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.rmtree(args.dir / "target", ignore_errors=True)
            zero = open("/dev/zero") if "-" in command[1:2] else subprocess.DEVNULL
            run = subprocess.Popen([args.sss, *map(str, command)], stdin=zero, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env=args.env)
            time.sleep(0.01 + moment * 0.04)
            begun = time.monotonic()
            run.send_signal(signal.SIGINT)
            run.wait()
            longest = max(longest, time.monotonic() - begun)
            codes.add(run.returncode)
        print(f"{name}: at most {longest:.3f} s, exit codes {sorted(codes)}")
        longest_of_all = max(longest_of_all, longest)
    server.stop()
    print(f"longest: {longest_of_all:.3f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["trees", "kills", "interruptions"])
    parser.add_argument("sss", help="the program")
    parser.add_argument("--dir", type=Path, default=Path("/tmp/sss-files"), help="a new directory for everything")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--rate", default="200M", help="of each `sss get` that is killed")
    args = parser.parse_args()
    os.sync()
    args.sss = str(Path(args.sss).resolve())
    args.dir.mkdir(parents=True)
    args.env = dict(os.environ, HOME=str(args.dir), XDG_CONFIG_HOME=str(args.dir / "config"))
    try:
        {"trees": trees, "kills": kills, "interruptions": interruptions}[args.what](args)
    finally:
        shutil.rmtree(args.dir)


main()
