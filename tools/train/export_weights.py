"""Write the trained weights as the library ships them.

    python3 export_weights.py TRAINED.safetensors WEIGHTS_DIR

Copies the half-precision tensors unchanged and adds the metadata that names the model, its labels
and its licence; the labels also go into a text file, one a line.
"""

import os
import sys

from safetensors.torch import load_file, save_file

import model as network
import sources

LICENSE = ("Weights trained on pictures under CC0, CC-BY, CC-BY-SA, GPL, MIT and public-domain "
           "terms; see LICENSE.swin_nano_objects.txt")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    trained, folder = sys.argv[1:]
    names, _ = sources.load_classes()
    tensors = load_file(trained)
    assert tensors["head.fc.weight"].shape[0] == len(names), "classes.tsv has changed"
    assert set(tensors) == set(network.build(len(names)).state_dict())
    save_file(tensors, os.path.join(folder, "swin_nano_objects.safetensors"), {
        "format": "pt", "vertebra.model": network.NAME, "vertebra.labels": "\n".join(names),
        "vertebra.license": LICENSE})
    with open(os.path.join(folder, "swin_nano_objects.labels.txt"), "w") as f:
        f.write("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
