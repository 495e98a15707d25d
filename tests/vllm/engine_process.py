"""One vLLM engine in this process, driven over stdin and stdout: a JSON object a line each way.

    engine_process.py {"model": …, "connector": …, "arguments": {…}, "cache": folder,
                       "faults": text}

Its model's compiled code is kept in "cache"; "faults" come to what its node receives, in the form
of tests/fakes/faults.h.
"""

import json
import os

import vllm_engine

# Threads that wait for each other sleep: with more of them than free cores the spinning of one
# keeps the others from computing.
os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", KMP_BLOCKTIME="0")


def ours_of(connector):
    """The engine's BatonConnector, be it inside a MultiConnector."""
    return connector.sub_connectors[0] if hasattr(connector, "sub_connectors") else connector


def install_faults(text):
    from baton.vllm import worker_side

    import baton_faults  # by now it knows the types of baton

    make = worker_side.node_config

    def faulty(*arguments):
        config = make(*arguments)
        baton_faults.install(config, text)
        return config

    worker_side.node_config = faulty


class Engine:
    def __init__(self, setup):
        if setup.get("cache"):
            os.environ["VLLM_CACHE_ROOT"] = setup["cache"]
        if setup.get("faults"):
            install_faults(setup["faults"])
        self.llm = vllm_engine.start(setup, gpu_memory_utilization=0.4)
        self.core = self.llm.llm_engine.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.submitted = 1_000_000
        self.scheduled = {}  # request id: tokens that the scheduler scheduled of its prompt
        schedule = self.scheduler.schedule

        def counted(*arguments):
            output = schedule(*arguments)
            self._count(output)
            return output

        self.scheduler.schedule = counted

    def _count(self, output):
        for request_id, tokens in vllm_engine.prompt_tokens(self.scheduler, output).items():
            self.scheduled[request_id] = self.scheduled.get(request_id, 0) + tokens

    # --- commands

    def generate(self, requests):
        """Answers in order: tokens, finish_reason, kv_transfer_params, and how many tokens of the
        prompt the scheduler let this engine compute."""
        prompts, samplings = [], []
        for request in requests:
            prompt = {"prompt_token_ids": request["prompt"]}
            if request.get("salt"):
                prompt["cache_salt"] = request["salt"]
            prompts.append(prompt)
            samplings.append(vllm_engine.sampling(request))
        self.scheduled.clear()
        outputs = self.llm.generate(prompts, samplings, use_tqdm=False)
        by_output = sorted(self.scheduled)  # ids count up, so they sort as the prompts do
        by_output.sort(key=lambda request_id: int(request_id.split("-")[0]))
        return [{"tokens": list(output.outputs[0].token_ids),
                 "finish_reason": output.outputs[0].finish_reason,
                 "params": output.kv_transfer_params,
                 "computed": self.scheduled[request_id]}
                for output, request_id in zip(outputs, by_output)]

    def submit(self, requests):
        """As generate(), but returns at once: the requests' ids, for steps() and abort()."""
        ids = []
        for request in requests:
            self.submitted += 1
            ids.append(str(self.submitted))
            prompt = {"prompt_token_ids": request["prompt"], "cache_salt": request["salt"]}
            self.llm.llm_engine.add_request(ids[-1], prompt, vllm_engine.sampling(request))
        return ids

    def steps(self, most):
        """At most so many steps of the engine; ids and tokens of what has ended meanwhile."""
        ended = {}
        for _ in range(most):
            if not self.llm.llm_engine.has_unfinished_requests():
                if not self.scheduler.has_requests():
                    break
                self.core.step_fn()  # of what has ended, blocks are still held for a handoff
                continue
            for output in self.llm.llm_engine.step():
                if output.finished:
                    ended[output.request_id] = list(output.outputs[0].token_ids)
        return ended

    def abort(self, ids):
        self.llm.llm_engine.abort_request(ids)

    def step_until_idle(self):
        """A finished request's last words reach the worker in a step of their own."""
        while self.scheduler.has_requests():
            self.core.step_fn()
        return True

    def reset(self):
        """vLLM's caches and the connector's, as after a change of weights; whether both did."""
        return self.llm.reset_prefix_cache(reset_connector=True)

    def state(self):
        pool = self.scheduler.kv_cache_manager.block_pool
        worker, connector = self.worker(), self.scheduler.connector
        return {"free_blocks": pool.get_num_free_blocks(), "blocks": pool.num_gpu_blocks,
                "requests": len(self.scheduler.requests),
                "sessions": len(worker._sends) + len(worker._loads) if worker else 0,
                "errors": ((worker.errors if worker else 0)
                           + (ours_of(connector)._scheduler.errors if connector else 0))}

    def worker(self):
        """None where there is no connector, or several ranks, which are processes of their own."""
        from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group

        return ours_of(get_kv_transfer_group())._worker if has_kv_transfer_group() else None

    def held(self):
        """What its node holds beyond the chunks that its host tier keeps, in slots, and how many
        descriptors this process has open."""
        debug = json.loads(self.worker().node.debug())
        pools = debug["slots"]["pools"]
        retained = pools["retained"]["held"] if "retained" in pools else 0
        return {"slots": pools["transit"]["held"] + retained - debug["host_tier"]["chunks"],
                "quarantined": debug["slots"]["quarantined"],
                "descriptors": len(os.listdir("/proc/self/fd"))}

    def kv(self):
        """What another node must say to be taken for one of an engine like this."""
        worker = self.worker()
        return {
            "fingerprint": {name: getattr(worker.fingerprint, name) for name in (
                "model", "dtype", "layers", "planes", "kv_heads", "head_dim", "rope",
                "opaque_layout")},
            "layout": {name: getattr(worker.detected.layout, name) for name in (
                "block_tokens", "opaque_block_bytes", "block_stride")},
            "layers": len(worker.detected.layers),
            "chunk_tokens": worker.chunk_tokens,
        }

    def nodes(self):
        """The address of each rank's node."""
        return ours_of(self.scheduler.connector)._scheduler.addresses

    def metrics(self):
        """The node's metrics, as Prometheus text."""
        return self.worker().node.metrics()

    def counters(self, prefix):
        """vLLM's: name, labels' values and value of its counters with that beginning."""
        return [[metric.name, sorted(metric.labels.values()), metric.value]
                for metric in self.llm.get_metrics()
                if metric.name.startswith(prefix) and hasattr(metric, "value")]


def main():
    answer = vllm_engine.answers()
    engine = vllm_engine.make(Engine, answer)
    for command in vllm_engine.commands():
        try:
            value = getattr(engine, command["do"])(*command["with"])
            answer(id=command["id"], value=value)
        except Exception as exception:
            answer(id=command["id"], error=vllm_engine.error(exception))
    vllm_engine.shut_down(engine.llm)


if __name__ == "__main__":
    main()
