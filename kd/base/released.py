"""Which code of stored models may be run: what this project has released to serve its models."""

RELEASED = {
    "350a881dae654de49046226778cada255b899a595d2fb1be352f85f8af78f7b1": "classification, 2026-11-22",
    "84c15bef83ebf5715aba1977ee68816ad3c4d21d05d57e3bb36b1748957b2dc5": "classification, 2026-11-22",
    "5affbcbe7f42af7343f7c24daf271bfd87bc549493e4a975f320d3970681e018": "classification, 2026-11-22",
    "e9c658287dd54ae51ef907007acc5d3f5e28644ad3132fb420cc733df972a4b4": "classification, 2026-11-22",
    "d78f5b45c528776b842f2fd79168843708beab1f27d4f4e0ae115928667b1210": "classification, 2026-11-22",
    "6c15f2090fdb3171f5ab4b0fc6693810d6b9d1b57b9d4daec47e5fdbf2ddf10a": "classification, 2026-11-22",
    "cb3a477491d904ad82780a24abe99ae4e7914179f2d79acf802b102ce858ea21": "classification, 2026-11-28",
    "7a231076b00d4e0d4bc6c4eb68c3752ad772231596613951f3132b0969750ec9": "classification, 2026-11-29",
    "f491369a30070f2689c8b011a138794f87bb2ed17b8a549f28d4488f8267303e": "classification, 2026-11-29",
    "6aa10982495ca6f39c2dfc6e034220057dd661840cfb51592226388c43a2742b": "forecasting, served.py, 2026-11-29",
    "b766135811a38560f324e9063bf6f653f8812e18199da6a0a5ff696515a4176c": "forecasting, __init__.py, 2026-11-29",
    "bd74ed35023c9ff5454ff4300827aec5aa1d4cc21318bec36430eaff60a07cf9": "forecasting, base.py, 2026-11-29",
    "2c399b3cdef4746f9bb190054417e7905d5235b6c53cd4a1a529aae63a1557af": "forecasting, prompt.py, 2026-11-29",
    "3e84043417b42b568e77e23dc9a556e19a0f76434b9670b143d21de45af41353": "forecasting, simple.py, 2026-11-29",
    "7e514a8d642c64c954648ec43d88a821bd24f760584994c3bbc224c520edf181": "forecasting, time_llm.py, 2026-11-29",
    "ef8701084aa907c49b09f249db8dc887a5e813c6fd884a58658142d37ca821f1": "forecasting, __init__.py, 2026-11-29",
    "75f13ec004c0ae365e0c371830c3e340105ee4e7685ff8e07007e918ef69d257": "forecasting, prompt.py, 2026-11-29",
    "00d5df9e9c07cd0942bd46a251bb592789c15d6a7f93732e68e81ca29249643b": "forecasting, time_llm.py, 2026-11-29",
}
"""SHA-256 of every version of every `served.py`, and of the code shipped beside weights, and which it is: a change of
such a file adds a line, none goes."""
