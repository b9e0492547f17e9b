import pytest

from train.errors import TrainError
from train.recipe import RECIPES, Recipe, read


def test_the_defaults_are_the_published_run() -> None:
    recipe = read()
    assert recipe == read("main") == Recipe()
    assert (recipe.base, recipe.bits, recipe.lora_r, recipe.learning_rate) == ("google/gemma-3-1b-it", 4, 16, 2e-4)


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_shipped_recipe_is_valid(name: str) -> None:
    assert read(name).name


def test_overrides_are_read_as_yaml_and_replace_the_recipes(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nlearning_rate: 1e-4\ndata: [a.jsonl, b.csv]\n")
    recipe = read(str(file), {"packing": "false", "data": "c.jsonl", "name": "007"})
    assert (recipe.learning_rate, recipe.packing, recipe.data, recipe.name) == (1e-4, False, ("c.jsonl",), "007")


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"bits": 8}, "bits is 8 but must be one of 4, 16, 32"),
        ({"epochs": "many"}, "epochs is 'many'"),
        ({"examples": True}, "examples is True"),
        ({"splits": "[0.5, 0.5]"}, "three positive shares"),
        ({"max_length": 3}, "max_length is 3 but must be from 32"),
        ({"surprise": 1}, "no option 'surprise'"),
        ({"data_weights": "[1, 2]"}, "data_weights"),
    ],
)
def test_a_bad_value_is_one_sentence_with_its_name(values: dict[str, object], word: str) -> None:
    with pytest.raises(TrainError) as error:
        read("", values)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(TrainError, match="demo, main, seed"):
        read("dmeo")


def test_the_seed_recipe_is_the_original_notebooks_run() -> None:
    """As its cells and outputs show it: BitsAndBytesConfig, LoraConfig, TrainingArguments, and the cells that prepare."""
    notebook = {
        "base": "google/gemma-3-1b-it", "bits": 4,
        "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "lora_modules": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "data": ("lavita/medical-qa-datasets:all-processed",), "examples": 50_000, "draw": "first", "cleaning": "spaces",
        "leave_out": (), "near_duplicates": 0, "min_characters": 10, "max_words": 500, "splits": (0.70, 0.15, 0.15),
        "max_length": 512, "packing": False, "loss": "sequence",
        "epochs": 1, "batch_size": 4, "accumulation": 4, "learning_rate": 2e-4, "schedule": "linear", "warmup_steps": 100,
        "weight_decay": 0.01, "max_grad_norm": 0.3, "optimizer": "paged_adamw_8bit", "gradient_checkpointing": True,
        "eval_steps": 250, "eval_examples": 7_500, "seed": 42,
    }  # fmt: skip
    recipe = read("seed")
    assert {name: getattr(recipe, name) for name in notebook} == notebook
