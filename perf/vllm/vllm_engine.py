"""What a process with one vLLM engine in it does, whoever drives it over stdin and stdout:
worker.py, and the tests' engine.

The engine runs in the process (VLLM_ENABLE_V1_MULTIPROCESSING=0), so that its own counters, block
pool and connector can be looked at. Imported before vLLM is.
"""

import json
import os
import sys
import traceback

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1",
                  VLLM_CPU_KVCACHE_SPACE="1")


def start(setup, **defaults):
    """{"model": …, "connector": {kv_transfer_config} or null, "arguments": {…}}"""
    from vllm import LLM

    arguments = dict(model=setup["model"], dtype="float32", max_model_len=2048, max_num_seqs=8,
                     enforce_eager=True, disable_log_stats=False)
    arguments.update(defaults)
    arguments.update(setup.get("arguments", {}))
    if setup.get("connector"):
        arguments["kv_transfer_config"] = setup["connector"]
    return LLM(**arguments)


def sampling(command):
    """Of a request: {"max_tokens": …, "params": its kv_transfer_params or null}"""
    from vllm import SamplingParams

    params = command.get("params")
    return SamplingParams(temperature=0, max_tokens=command["max_tokens"], ignore_eos=True,
                          extra_args={"kv_transfer_params": params} if params else None)


def prompt_tokens(scheduler, output):
    """{request id: how many tokens of its prompt this step computes}"""
    cached = output.scheduled_cached_reqs
    before = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
    before.update(zip(cached.req_ids, cached.num_computed_tokens))
    found = {}
    for request_id, done in before.items():
        prompt = scheduler.requests[request_id].num_prompt_tokens
        after = done + output.num_scheduled_tokens[request_id]
        found[request_id] = max(0, min(prompt, after) - done)
    return found


def answers():
    """Writes an answer to whoever drives this process; from now on what is printed goes to the
    log."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda **answer: out.write(json.dumps(answer) + "\n")


def error(exception):
    """As an answer's "error"; the whole of it is in the log."""
    traceback.print_exception(exception)
    return f"{type(exception).__name__}: {exception}"


def make(kind, answer):
    """kind(setup), of this process's arguments; ends the process where that fails."""
    try:
        made = kind(json.loads(sys.argv[1]))
    except Exception as exception:
        answer(id=0, error=error(exception))
        os._exit(1)
    answer(id=0, value="ready")
    return made


def commands():
    for line in sys.stdin:
        yield json.loads(line)


def shut_down(llm):
    """As vLLM's own shutdown does; then nothing of the engine is left that Python would destroy
    (NIXL 1.5.1 crashes when the interpreter takes it apart)."""
    llm.llm_engine.engine_core.shutdown()
    os._exit(0)
