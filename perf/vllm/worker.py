"""One vLLM engine in this process, stepped as vLLM's own server steps one, and timed from within.

    worker.py {"model": …, "connector": {kv_transfer_config} or null, "arguments": {…}}

Commands come on stdin, answers go to stdout, a JSON object a line each; an answer carries its
command's "id". A request is added at once and answered when it has ended; meanwhile, and until
nothing is held for a handoff, the engine goes on stepping. All times are CLOCK_MONOTONIC, which is
common to a host's processes.
"""

import os
import queue
import threading
import time

import vllm_engine

# The connector's hooks that run within a step of the worker.
HOOKS = ("handle_preemptions", "bind_connector_metadata", "start_load_kv", "wait_for_layer_load",
         "save_kv_layer", "wait_for_save", "get_transfer_results", "get_finished",
         "get_block_ids_with_load_errors", "build_connector_worker_meta", "get_kv_connector_stats")

# A request's blocks are held for what is copied out of them, no longer.
FREED_WITHIN_S = 10


class Running:
    """A request that has not ended."""

    def __init__(self, command):
        self.id = command["id"]
        self.added = time.monotonic()
        self.times = []  # when each token was there
        self.steps = []  # of those that computed something


class Worker:
    def __init__(self, setup):
        self.llm = vllm_engine.start(
            setup, max_num_batched_tokens=2048, gpu_memory_utilization=0.2,
            num_gpu_blocks_override=40)
        self.engine = self.llm.llm_engine
        self.core = self.engine.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.running = {}  # the engine's request id: Running
        self.hooks = {}  # seconds of this step
        self.computed = 0  # tokens of prompts that this step computes
        self._wrap()

    def _wrap(self):
        from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group

        schedule, step = self.scheduler.schedule, self.core.step_fn

        def counted(*arguments):
            output = schedule(*arguments)
            self.computed = sum(vllm_engine.prompt_tokens(self.scheduler, output).values())
            return output

        def timed():
            self.hooks, self.computed = dict.fromkeys(HOOKS, 0.0), 0
            began, thread, process = time.monotonic(), time.thread_time(), time.process_time()
            outputs, executed = step()
            if executed:
                cpu = time.thread_time() - thread
                record = {"began": began, "seconds": time.monotonic() - began, "cpu_s": cpu,
                          "other_threads_s": time.process_time() - process - cpu,
                          "computed": self.computed,
                          "hooks_s": {k: v for k, v in self.hooks.items() if v}}
                for each in self.running.values():
                    each.steps.append(record)
            self.executed = executed
            return outputs, executed

        self.scheduler.schedule, self.core.step_fn = counted, timed
        if has_kv_transfer_group():
            connector = get_kv_transfer_group()
            for name in HOOKS:
                setattr(connector, name, self._timed_hook(name, getattr(connector, name)))

    def _timed_hook(self, name, hook):
        def timed(*arguments, **named):
            began = time.monotonic()
            try:
                return hook(*arguments, **named)
            finally:
                self.hooks[name] = self.hooks.get(name, 0.0) + time.monotonic() - began

        return timed

    # --- commands

    def request(self, command):
        one = Running(command)
        self.running[str(command["id"])] = one
        self.engine.add_request(str(command["id"]), {"prompt_token_ids": command["prompt"],
                                                     "cache_salt": command["salt"]},
                                vllm_engine.sampling(command))

    def node(self, command):
        from vllm.distributed.kv_transfer import get_kv_transfer_group

        return get_kv_transfer_group()._worker.node.advertised

    def sources(self, command):
        """vLLM's own counters: where its prompts' tokens came from."""
        found = {}
        for metric in self.llm.get_metrics():
            if metric.name in ("vllm:prompt_tokens_by_source",
                               "vllm:prompt_tokens_cached_by_source"):
                source = metric.labels.get("source") or sorted(metric.labels.values())[-1]
                found[f"{metric.name}/{source}"] = metric.value
        return found

    def forget(self, command):
        """vLLM's prefix cache is empty, and nothing that it held is still in its memory: so what a
        later request finds there was brought there. This also touches all of the memory."""
        until = time.monotonic() + FREED_WITHIN_S
        while not self.llm.reset_prefix_cache():  # the last request's blocks are still being read
            assert time.monotonic() < until, "the prefix cache is in use"
            self.engine.step()
        for tensor in self.core.model_executor.driver_worker.model_runner.kv_caches:
            tensor.fill_(0.0)

    def bind(self, command):
        """The computing thread to one core; with "yielding" the others to any, where they run when
        nobody else would. Where the computing thread was, and where the others are."""
        before = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {command["core"]})
        others = [int(each) for each in os.listdir("/proc/self/task") if int(each) != os.getpid()]
        for thread in others if command["yielding"] else ():
            os.sched_setaffinity(thread, range(os.cpu_count()))
            os.setpriority(os.PRIO_PROCESS, thread, 19)
        return {"before": before,
                "others": [sorted(os.sched_getaffinity(thread)) for thread in others]}

    # --- the loop

    def step(self, answer):
        self.executed = True
        for output in self.engine.step():
            one = self.running.get(output.request_id)
            if one is None:
                continue
            tokens = list(output.outputs[0].token_ids)
            one.times += [time.monotonic()] * (len(tokens) - len(one.times))
            if output.finished:
                del self.running[output.request_id]
                answer(id=one.id, value={
                    "tokens": tokens, "added": one.added, "times": one.times, "steps": one.steps,
                    "params": output.kv_transfer_params})
        if not self.executed and self.scheduler.has_requests():
            time.sleep(0.001)  # as vLLM's server does

    def serve(self, commands, answer):
        settling = []
        while True:
            busy = self.scheduler.has_requests()
            if not busy:
                while settling:
                    answer(id=settling.pop(), value=None)
            try:
                command = commands.get(block=not busy)
            except queue.Empty:
                self.step(answer)
                continue
            if command is None:
                return
            if command["do"] == "settle":
                settling.append(command["id"])
                continue
            try:
                value = getattr(self, command["do"])(command)
                if command["do"] != "request":
                    answer(id=command["id"], value=value)
            except Exception as exception:
                answer(id=command["id"], error=vllm_engine.error(exception))


def main():
    answer = vllm_engine.answers()
    worker = vllm_engine.make(Worker, answer)
    commands = queue.SimpleQueue()

    def read():
        for command in vllm_engine.commands():
            commands.put(command)
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    worker.serve(commands, answer)
    vllm_engine.shut_down(worker.llm)


if __name__ == "__main__":
    main()
