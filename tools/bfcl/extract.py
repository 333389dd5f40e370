#!/usr/bin/env python3
"""Functions and questions of the Berkeley Function Calling Leaderboard as JSON lines, for the text benchmark.

    python3 tools/bfcl/extract.py bfcl.jsonl

installs the package bfcl-eval (Apache-2.0) without its dependencies into a temporary folder with pip, reads the data files
in it, and writes one line per function
    {"function": {"name": ..., "description": ..., "parameters": {"<name>": "<description>", ...}}}
and one line per question with the names and descriptions of the functions that the published answers call:
    {"query": {"text": ..., "answers": [<line number among the functions>, ...]}}
Nothing of it is part of this repository. Functions are told apart by name and description; questions without an answer among
the functions offered with them (irrelevance) are left out, and so are those of several turns.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

FILES = [
    "simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
]
# Functions of these are offered in vain; they widen the pool.
POOL = []


def install(folder):
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, "bfcl-eval"],
        check=True,
    )
    return pathlib.Path(folder) / "bfcl_eval" / "data"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def described(parameters, into, depth=0):
    """Names and descriptions of the parameters, nested ones too."""
    for name, schema in (parameters.get("properties") or {}).items():
        if isinstance(schema, dict):
            into[name] = str(schema.get("description", ""))
            if depth < 2:
                described(schema, into, depth + 1)
    return into


def main():
    target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "bfcl.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        data = install(folder)
        functions, numbers, queries = [], {}, []

        def number(function):
            key = (function["name"], function.get("description", ""))
            if key not in numbers:
                numbers[key] = len(functions)
                parameters = described(function.get("parameters") or {}, {})
                functions.append({"name": key[0], "description": key[1], "parameters": parameters})
            return numbers[key]

        for name in FILES + POOL:
            answers = {}
            if name in FILES:
                path = data / "possible_answer" / f"BFCL_v4_{name}.json"
                answers = {line["id"]: line["ground_truth"] for line in lines(path)}
            for line in lines(data / f"BFCL_v4_{name}.json"):
                offered = {function["name"]: number(function) for function in line["function"]}
                called = {call for truth in answers.get(line["id"], []) for call in truth}
                relevant = sorted(offered[call] for call in called if call in offered)
                turns = line["question"][0] if line["question"] else []
                text = " ".join(turn["content"] for turn in turns if turn.get("role") == "user")
                if relevant and text.strip():
                    queries.append({"text": text, "answers": relevant})
    with target.open("w", encoding="utf-8") as out:
        for function in functions:
            out.write(json.dumps({"function": function}, ensure_ascii=False) + "\n")
        for query in queries:
            out.write(json.dumps({"query": query}, ensure_ascii=False) + "\n")
    print(f"{len(functions)} functions, {len(queries)} questions in {target}")


if __name__ == "__main__":
    main()
