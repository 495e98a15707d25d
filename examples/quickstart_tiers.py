"""A long prefix that many prompts share, kept in memory, on NVMe and in S3, and found again in each
when what is nearer is gone: quickstart.sh --tiers."""

import os
import re
import time
import urllib.request

import tables
from asking import Request, model_name, send
from processes import ENGINE_FLAGS, LOOPBACK, ProgramEnded
from s3_gateway import Gateway, missing_programs

CHUNK_TOKENS = int(ENGINE_FLAGS[ENGINE_FLAGS.index("--chunk-tokens") + 1])
ANSWER_TOKENS = 24
BUCKET = "baton-quickstart"
NVME = "1GiB"
KEPT_LIMIT_S = 120
# Where the prefix is to be found, and what is asked then.
STAGES = [("nowhere", "Who runs the harbour?"),
          ("host", "What does the text say of carts?"),
          ("nvme", "What is a deck?"),
          ("s3", "Name one thing that waits.")]
PLACES = {"nowhere": "nowhere: computed", "host": "memory", "nvme": "NVMe", "s3": "S3"}


def why_not():
    """What is missing for it; None where nothing is."""
    if missing := missing_programs():
        return ("the S3 service is Ceph's gateway, and there is no "
                f"{', '.join(missing)} here: examples/packages.txt names the packages")
    return None


def metric(engine, name, tier):
    with urllib.request.urlopen(f"http://{engine.addresses['node_http']}/metrics",
                                timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(rf'^{name}{{tier="{tier}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def wait_kept(programs, engine, chunks):
    """Nobody waits for a tier, so what was just computed may still be on its way there."""
    deadline = time.monotonic() + KEPT_LIMIT_S
    stored = {}
    while True:
        stored = {tier: metric(engine, "baton_tier_stored_bytes_total", tier)
                  for tier in ("nvme", "s3")}
        if metric(engine, "baton_tier_chunks", "nvme") >= chunks and \
                stored["s3"] == stored["nvme"]:
            return stored["s3"]
        programs.check_alive()
        if time.monotonic() > deadline:
            raise ProgramEnded(f"{chunks} chunks are not on NVMe and in S3 after {KEPT_LIMIT_S} s: "
                               f"{stored}; the engine's last lines:\n{engine.log_tail()}")
        time.sleep(0.1)


def questions(prompts):
    text = (prompts / "harbour.txt").read_text()
    return {place: Request(place, "/v1/chat/completions",
                           {"messages": [{"role": "system", "content": text},
                                         {"role": "user", "content": question}],
                            "max_tokens": ANSWER_TOKENS})
            for place, question in STAGES}


def ask_alone(programs, model, asked):
    print("== the same requests, to an engine that keeps nothing", flush=True)
    alone = programs.wait_ready(programs.start(
        "alone", "reference_engine", "--role", "both", "--model", model, "--listen", LOOPBACK,
        *ENGINE_FLAGS))
    name = model_name(alone.addresses["listen"])
    answers = {}
    for place, request in asked.items():
        answers[place] = send(alone.addresses["listen"], name, request, show=False)
    programs.end(alone)
    return answers


def ask_in_turn(programs, model, asked, gateway, device):
    """Each question once the prefix is where it is to be found, and nowhere nearer."""
    def start(name):
        engine = programs.start(
            name, "reference_engine", "--role", "both", "--model", model, "--listen", LOOPBACK,
            "--node", LOOPBACK, "--node-http", LOOPBACK, "--reuse", "--nvme", f"{device}:{NVME}",
            "--s3", f"s3://{BUCKET}?endpoint={gateway.endpoint}", *ENGINE_FLAGS)
        return programs.wait_ready(engine)

    answers = {}
    engine = start("engine-1")
    name = model_name(engine.addresses["listen"])

    def ask(place):
        print(f"== asked: the prefix lies in {PLACES[place]}" if place != "nowhere" else
              "== asked: nobody has computed the prefix", flush=True)
        answers[place] = send(engine.addresses["listen"], name, asked[place], show=False)
        return answers[place].usage["prompt_tokens"]

    tokens = ask("nowhere")
    kept = wait_kept(programs, engine, -(-tokens // CHUNK_TOKENS))
    print(f"== kept: {kept / 1e6:.1f} MB on NVMe, the same in S3", flush=True)
    ask("host")
    print("== the engine is stopped and started", flush=True)
    programs.end(engine)
    engine = start("engine-2")
    ask("nvme")
    print("== the engine is stopped, its NVMe wiped, and it is started", flush=True)
    programs.end(engine)
    device.unlink()
    engine = start("engine-3")
    ask("s3")
    programs.end(engine)
    return answers


def is_good(place, answer, reference):
    """Found where it was, so that less than half of the prompt was computed; the right answer."""
    tokens = answer.usage.get("prompt_tokens", 0)
    computed = answer.handoff.get("prompt_tokens_computed", tokens)
    found = place == "nowhere" or (answer.handoff.get("transport") == place
                                   and computed < tokens / 2)
    return found and len(answer.tokens) > 0 and answer.tokens == reference.tokens


def row(place, answer, reference):
    equal = sum(a == b for a, b in zip(answer.tokens, reference.tokens))
    handoff = answer.handoff
    return [PLACES[place], str(answer.usage.get("prompt_tokens", "?")),
            str(handoff.get("prompt_tokens_computed", "?")),
            f"{handoff.get('bytes', 0) / 1e6:.2f}", f"{answer.ttft_s * 1e3:.0f}",
            f"{reference.ttft_s * 1e3:.0f}",
            f"{equal}/{max(len(answer.tokens), len(reference.tokens))}"
            + ("" if answer.tokens == reference.tokens else " NO")]


def show(programs, model, model_line, prompts):
    """Runs it and prints the table; whether all was found where it was, and all tokens equal."""
    print("== starting an S3 service (Ceph's gateway, on loopback) and an engine", flush=True)
    with Gateway(programs.folder / "s3") as gateway:
        gateway.create_bucket(BUCKET)
        os.environ["AWS_ACCESS_KEY_ID"] = gateway.access
        os.environ["AWS_SECRET_ACCESS_KEY"] = gateway.secret
        asked = questions(prompts)
        answers = ask_in_turn(programs, model, asked, gateway, programs.folder / "kv")
    references = ask_alone(programs, model, asked)
    print("\none prefix, four questions: where its KV was found\n")
    tables.print_table(["found in", "prompt tokens", "computed", "read MB", "TTFT ms",
                        "TTFT ms, computed", "tokens equal"],
                       [row(place, answers[place], references[place]) for place in asked])
    print(model_line)
    good = sum(is_good(place, answers[place], references[place]) for place in asked)
    print(f"\n{good} of {len(asked)} prompts were answered with exactly the tokens of an engine "
          "that keeps nothing,\nout of what was kept where it was kept.", flush=True)
    return good == len(asked)
