"""mechprobe: which internal directions go with misaligned reasoning, and which of them drive it.

Axis names used in every shape annotation of the package:

    case       one sequence of a batch            tok        one token (a row of a store)
    pos        one position of a padded sequence  span       one labelled span of text
    d_model    width of the residual stream       d_in       width that an SAE reads
    d_sae      number of SAE features             vocab      tokens of the vocabulary
    turn       one assistant turn                 indicator  one cognitive process
"""

__version__ = "0.1.0"
