"""Control connections over mutual TLS between real processes: whoever has a certificate of the
authority hands off, others do not, and say why."""

import subprocess

import pytest

from baton import KV_BYTES_PER_TOKEN, prompt_of
from legs import Legs


class Authority:
    """Issues certificates with the openssl program, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-subj", "/CN=authority", "-days", "1",
                      "-keyout", "ca.key", "-out", "ca.pem")

    def _openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True,
                       timeout=60)

    def flags(self, name):
        """The flags of a node with a certificate of this authority."""
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "1", "-out", f"{name}.pem")
        return {"tls_cert": self.folder / f"{name}.pem", "tls_key": self.folder / f"{name}.key",
                "tls_ca": self.folder / "ca.pem"}


@pytest.mark.parametrize("token", [None, "a-token-of-the-tests"])
def test_one_authority_hands_off(baton, alone, tmp_path, token):
    """Beyond loopback too, without a token."""
    authority = Authority(tmp_path / "authority")
    env = {} if token is None else {"BATON_TOKEN": token}
    prefiller = baton.engine("prefill", env=env, **authority.flags("prefiller"))
    decoder = baton.engine("decode", env=env, node="0.0.0.0:0", advertise="127.0.0.1",
                           **authority.flags("decoder"))
    prompt = prompt_of(200)
    with Legs(prefiller, decoder, prompt) as legs:
        futures = [legs.send("prefill"), legs.send("decode")]
        answers = [future.result() for future in futures]
    assert answers[1].tokens == alone(prompt)
    assert answers[1].handoff["prompt_tokens_computed"] == 1
    assert answers[1].handoff["bytes"] == 200 * KV_BYTES_PER_TOKEN
    decoder.wait_idle()


@pytest.mark.parametrize("decode_has", ["another authority's", "none"])
def test_another_authority_or_no_tls(baton, alone, tmp_path, decode_has):
    one, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    prefiller = baton.engine("prefill", **one.flags("prefiller"))
    decoder = baton.engine("decode", first_contact_ms=500,
                           **(other.flags("decoder") if decode_has != "none" else {}))
    prompt = prompt_of(100)
    with Legs(prefiller, decoder, prompt) as legs:
        futures = [legs.send("prefill"), legs.send("decode")]
        answers = [future.result() for future in futures]
    assert answers[1].tokens == alone(prompt)
    assert answers[1].handoff["prompt_tokens_computed"] == 100
    ended = [line for line in prefiller.log.splitlines() if "handoff ended" in line]
    assert len(ended) == 1 and "TLS handshake" in ended[0], prefiller.tail()
    prefiller.wait_idle()
    decoder.wait_idle()
