"""Makes key.pem and the bundles keyed-*.json with the reference implementation: `pip install model-signing==1.1.1`, then run it here.

The key is thrown away, so that running it again makes other vectors of the same kind.
"""

import pathlib
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing

HERE = pathlib.Path(__file__).parent


def main() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (HERE / "key.pem").write_bytes(pem)
    with tempfile.TemporaryDirectory() as folder:
        private = pathlib.Path(folder) / "key.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        for algorithm in ["sha256", "blake2", "blake3"]:
            config = hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
            signer = signing.Config().use_elliptic_key_signer(private_key=private)
            signer.set_hashing_config(config)
            signer.sign(HERE / "model", HERE / f"keyed-{algorithm}.json")
        config = hashing.Config().use_shard_serialization(shard_size=512)
        signer = signing.Config().use_elliptic_key_signer(private_key=private)
        signer.set_hashing_config(config)
        signer.sign(HERE / "model", HERE / "keyed-shards.json")


if __name__ == "__main__":
    main()
