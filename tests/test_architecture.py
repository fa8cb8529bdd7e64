"""The dependency rules, size budgets and safety rules of the design, read from the source itself."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "kd").rglob("*.py"), *(ROOT / "entrypoints").rglob("*.py")])
BASIS = ("kd.types", "kd.data", "kd.statistics", "kd.home")

# part -> what of this project it may import beside itself
MAY_IMPORT = {
    "entrypoints": ("kd.config", "kd.stages"),
    "kd.types": (),
    "kd.home": (),
    "kd.statistics": (),
    "kd.slots": (),
    "kd.config": ("kd.types",),
    "kd.commandline": ("kd.types",),
    "kd.space": ("kd.config", *BASIS),
    "kd.details": BASIS,
    "kd.effects": BASIS,
    "kd.data": ("kd.types", "kd.home"),
    "kd.tasks": BASIS,
    "kd.models": BASIS,
    "kd.objectives": BASIS,
    "kd.selection": BASIS,
    "kd.signals": BASIS,
    "kd.insides": BASIS,
    "kd.training": ("kd.insides", *BASIS),
    "kd.evaluation": BASIS,
    "kd.teaching": ("kd.insides", *BASIS),
    "kd.precision": ("kd.types",),
    "kd.profiling": BASIS,
    "kd.comparison": BASIS,
    "kd.promotion": BASIS,
    "kd.verdicts": ("kd.comparison", *BASIS),
    "kd.report": ("kd.comparison", "kd.details", "kd.effects", *BASIS),
    "kd.packaging": ("kd.types",),
    "kd.onnx_export": ("kd.types", "kd.packaging"),
    "kd.tracking": ("kd.types",),
    "kd.stages": ("kd",),
}
# library -> the only modules that may import it
ONLY_IN = {"mlflow": ("kd.tracking", "kd.tracking.*", "kd.tasks.*.served"), "optuna": ("kd.stages.hpo.*",)}
# library -> how many modules at most may import it
AT_MOST = {"peft": 1}
# folders whose files are strategies: a file imports of its siblings only `base`
STRATEGIES = ("kd/objectives", "kd/selection", "kd/tasks")
# folder -> lines a file, the most specific first
LINES = {"entrypoints": 15, "kd/objectives": 120, "kd/selection": 120, "kd/tasks": 300, "kd/stages": 270, "kd": 400}
FUNCTION_LINES, ARGUMENTS = 50, 6


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
PATHS = {module_name(path): path for path in FILES}


def type_checking_only(tree):
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {id(inner) for block in blocks for part in block.body for inner in ast.walk(part)}


def imports(module, with_types=True):
    """Names of all modules imported anywhere in a module, also inside functions and by import_module("...")."""
    skipped = set() if with_types else type_checking_only(TREES[module])
    found = set()
    for node in ast.walk(TREES[module]):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide what depends on what"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in TREES else node.module for name in inside}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    return found


def within(module, part):
    return module == part or module.startswith(part + ".")


def ours(module, with_types=True):
    return {name for name in imports(module, with_types) if within(name, "kd") or within(name, "entrypoints")}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_the_design_allows(part):
    wrong = [
        f"{module} imports {name}"
        for module in TREES
        if within(module, part)
        for name in ours(module)
        if not any(within(name, allowed) for allowed in (part, *MAY_IMPORT[part]))
    ]
    assert not wrong


def test_every_module_has_a_line_in_the_table_so_none_escapes_the_rules():
    free = [module for module in TREES if not any(within(module, part) for part in MAY_IMPORT)]
    assert free == ["kd"]


def test_entry_points_are_leaves():
    assert not [f"{module} imports {name}" for module in TREES for name in ours(module) if within(name, "entrypoints")
                and not within(module, "entrypoints")]  # fmt: skip


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_confined_to_its_module_so_the_rest_works_without_it(library):
    def allowed(module):
        return any(Path(module).match(pattern) for pattern in ONLY_IN[library])

    assert not [m for m in TREES if any(within(name, library) for name in imports(m)) and not allowed(m)]


@pytest.mark.parametrize("library", AT_MOST)
def test_a_library_has_one_importer(library):
    importers = [m for m in TREES if any(within(name, library) for name in imports(m))]
    assert len(importers) <= AT_MOST[library], importers


def test_a_served_model_needs_nothing_of_this_project():
    served = [module for module in TREES if module.endswith(".served")]
    assert served
    assert not {module: ours(module) for module in served if ours(module)}


@pytest.mark.parametrize("folder", STRATEGIES)
def test_strategies_know_only_their_base_so_each_can_be_read_alone(folder):
    package = folder.replace("/", ".")
    for module in TREES:
        if not within(module, package) or module == package:
            continue
        own = ".".join(module.split(".")[:3])  # a strategy may be a folder
        siblings = {name for name in ours(module) if within(name, package) and not within(name, own)}
        assert siblings <= {f"{package}.base"}, module


def test_there_is_no_import_circle_not_even_a_lazy_one():
    graph = {module: ours(module, with_types=False) - {module} for module in TREES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_comparing_loads_neither_torch_nor_transformers_which_take_longer_than_the_comparison():
    code = "import sys, kd.stages.compare; print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", TREES)
def test_files_and_functions_keep_their_budgets(module):
    path = PATHS[module].relative_to(ROOT)
    budget = next(lines for folder, lines in LINES.items() if path.is_relative_to(folder))
    assert len(PATHS[module].read_text(encoding="utf-8").splitlines()) <= budget
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            given = [one.arg for one in listed if one.arg not in ("self", "cls")]
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{node.name} is too long"
            assert len(given) <= ARGUMENTS, f"{node.name} takes {len(given)} arguments"


def unsafe(call):
    """Why a call could run code that is not ours, or None."""
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if given.get("trust_remote_code", "False") != "False":
        return "trust_remote_code"
    if given.get("shell", "False") != "False" or name in ("os.system", "os.popen"):
        return "a shell"
    if name.endswith("torch.load") and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        return "allow_pickle"
    if name in ("eval", "exec") or (name.endswith((".load", ".loads", ".Unpickler")) and "pickle" in name):
        return name
    return None


@pytest.mark.parametrize(
    "code",
    [
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "pickle.load(f)",
        "cloudpickle.loads(b)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
    ],
)
def test_the_safety_rule_sees_what_it_must_see(code):
    assert unsafe(ast.parse(code).body[0].value)


@pytest.mark.parametrize("module", TREES)
def test_nothing_executes_code_that_came_with_data_or_weights(module):
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    assert not [f"line {call.lineno}: {unsafe(call)}" for call in calls if unsafe(call)]
