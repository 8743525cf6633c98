"""Wrong command lines: exit code 2, the usage of the subcommand, and nothing is done."""
import os

import pytest

ONE = "it must be a whole number of at least 1"
WRONG = [
    ("", (), "the following arguments are required"),
    ("", ("dance",), "invalid choice: 'dance'"),
    ("list", ("--nonsense",), "unrecognized arguments: --nonsense"),
    ("bench model", ("--nonsense", "1"), "unrecognized arguments: --nonsense 1"),
    ("bench model", ("--seconds", "1", "a"), "unrecognized arguments: a"),
    ("explain", ("a.png", "--topk", "1", "b.png"), "unrecognized arguments: b.png"),
    ("classify", (), "no photo given: name one or more, or try 'npefficient classify --demo'"),
    ("classify", ("--output", "o.csv"), "no photo given"),
    ("classify", ("--engine", "ray", "--output", "rows"), "no photo given"),
    ("classify", ("a.png", "--model", "lite9"), "argument --model: unknown model 'lite9': known are lite0 to lite4 and "
                                                "digits (did you mean 'lite4'?)"),
    ("validate", (".", "--model", "digit"), "known are lite0 to lite4 and digits (did you mean 'digits'?)"),
    ("classify", ("a.png", "--weights", "digits"), "'digits': there is no such file; --model digits takes"),
    ("finetune", (".", "-o", "m.h5", "--weights", "lite0"), "'lite0': there is no such file; --model lite0 takes"),
    ("classify", ("a.png", "--topk", "few"), f"argument --topk: 'few': {ONE}"),
    ("classify", ("a.png", "--topk", "0"), f"argument --topk: '0': {ONE}"),
    ("classify", ("--demo", "--threads", "0"), f"argument --threads: '0': {ONE}"),
    ("classify", ("a.png", "--max-pixels", "0"), f"argument --max-pixels: '0': {ONE}"),
    ("classify", ("a.png", "--workers", "0"), f"argument --workers: '0': {ONE}"),
    ("classify", ("a.png", "--batch-size=-1"), f"argument --batch-size: '-1': {ONE}"),
    ("classify", ("a.png", "--embeddings"), "--embeddings without --output"),
    ("classify", ("a.png", "--resume"), "--resume without --output"),
    ("classify", ("a.png", "--force"), "--force without --output"),
    ("classify", ("a.png", "--output", "o.csv", "--json"), "--json with --output 'o.csv'"),
    ("classify", ("a.png", "--output", "o.csv", "--resume", "--force"), "not allowed with"),
    ("classify", ("a.png", "--output", "o.xls"), "output 'o.xls': it must end in .csv, .jsonl, .parquet or .h5"),
    ("classify", ("a.png", "--output", "o.csv", "--embeddings"), "output 'o.csv': a .csv has no place for embeddings"),
    ("classify", ("a.png", "--demo"), "--demo has its own photographs: omit it to use yours"),
    ("compare", ("a.h5",), "required: B"),
    ("compare", ("a.h5", "b.h5", "--layers"), "--layers without a PHOTO"),
    ("compare", ("a.h5", "b.h5", "--tolerance=-1"), "argument --tolerance: '-1': it must be a number of at least 0"),
    ("compare", ("a.h5", "b.h5", "--tolerance", "nan"), "argument --tolerance: 'nan': it must be"),
    ("convert", ("a.pth", "--variant", "resnet50"), "argument --variant: unknown model 'resnet50'"),
    ("convert", ("a.pth", "--mean", "123.675", "116.28", "103.53"), "argument --mean: '123.675': it must be a mean of "
                                                                    "values from 0 to 1, such as 0.485"),
    ("convert", ("a.pth", "--input-size", "0"), f"argument --input-size: '0': {ONE}"),
    ("convert", ("a.pth", "b.safetensors"), "argument OUT.h5: 'b.safetensors': its name must end in .h5 or .hdf5"),
    ("explain", (), "no photo given: name one, or try 'npefficient explain --demo'"),
    ("explain", ("a.png", "--demo"), "--demo has its own photographs"),
    ("explain", ("--demo", "--topk", "0"), f"argument --topk: '0': {ONE}"),
    ("explain", ("--demo", "-o", "a.pdf"), "argument -o/--output: 'a.pdf': its name must end in .html or .htm"),
    ("explain", ("--demo", "--png", "a.jpg"), "argument --png: 'a.jpg': its name must end in .png"),
    ("export", ("a.h5", "b.pth"), "argument OUT.safetensors|FOLDER/: 'b.pth': its name must end in .safetensors"),
    ("finetune", ("photos",), "required: -o/--output"),
    ("finetune", ("photos", "-o", "m.h5", "--model", "lite0", "--weights", "x.h5"), "not allowed with"),
    ("finetune", ("photos", "-o", "m.h5", "--val-split", "2"), "argument --val-split: '2': it must be a share above 0"),
    ("finetune", ("photos", "-o", "m.pth"), "argument -o/--output: 'm.pth': its name must end in .h5"),
    ("finetune", ("photos", "-o", "m.h5", "--seed=-1"), "argument --seed: '-1': it must be a whole number"),
    ("finetune", ("photos", "-o", "m.txt"), "argument -o/--output: 'm.txt': its name must end in .h5 or .hdf5"),
    ("finetune", ("photos", "-o", "m.h5", "--report", "c.doc"),
     "argument --report: 'c.doc': its name must end in .png or"),
    ("finetune", ("photos", "-o", "m.h5", "--json", "./m.h5"), "--output and --json './m.h5': they are the same file"),
    ("info", ("lite0", "--size", "0"), "argument --size: '0': give pixels"),
    ("info", ("lite0", "--size", "1x2x3"), "argument --size: '1x2x3': give pixels"),
    ("info", ("lite0", "--size=-4"), "argument --size: '-4': give pixels"),
    ("info", ("lite0", "--size", "12.5"), "argument --size: '12.5': give pixels"),
    ("profile", ("--seconds", "0"), "argument --seconds: '0': it must be a number of seconds above 0"),
    ("profile", ("--model", "b0"), "argument --model: unknown model 'b0': known are lite0 to lite4"),
    ("profile", ("--json", "a.json", "--trace", "a.json"), "--json and --trace 'a.json': they are the same file"),
    ("quantize", ("lite0", "b.pth"), "argument OUT.h5: 'b.pth': its name must end in .h5 or .hdf5"),
    ("validate", (), "required: DIR"),
    ("validate", ("x", "--csv", "a", "--json", "a"), "--csv and --json 'a': they are the same file; name two"),
    ("validate", ("x", "--json", "-"), "--json -: standard output is taken by the result; name a file"),
    ("compare", ("a.h5", "b.h5", "--json", "-"), "--json -: standard output is taken"),
    ("validate", ("x", "--preprocess", "torch"), "invalid choice: 'torch'"),
    ("validate", ("x", "--labels-base", "2"), "invalid choice: 2"),
    ("validate", ("x", "--model", "lite0", "--weights", "x.h5"), "not allowed with"),
    ("validate", ("x", "--batch-size", "0"), f"argument --batch-size: '0': {ONE}"),
    ("bench peak", ("--seconds", "0"), "argument --seconds: '0': it must be a number of seconds above 0"),
    ("bench model", ("--model", "lite0,lite9"), "argument --model: unknown model 'lite9'"),
    ("bench model", ("--batch", "1,0"), "argument --batch: '0': it must be a number of pictures from 1 to 65,536"),
    ("bench peers", ("--batch", "1,99999999999999999999"), "it must be a number of pictures from 1 to 65,536"),
    ("bench model", ("--threads", ""), f"argument --threads: '': {ONE}"),
    ("bench model", ("--size", "x"), "argument --size: 'x': give pixels"),
    ("bench kernels", ("--plot", "a.doc"), "argument --plot: 'a.doc': its name must end in .png or .pdf or"),
    ("bench layers", ("--threads", "1,2"), f"argument --threads: '1,2': {ONE}"),
    ("bench peers", ("--peer", "openvino,caffe"), "argument --peer: unknown peer 'caffe'"),
    ("bench peers", ("--rounds", "0"), f"argument --rounds: '0': {ONE}"),
    ("bench photos", ("--threads", "two"), f"argument --threads: 'two': {ONE}"),
]


@pytest.mark.parametrize("subcommand, arguments, message", WRONG,
                         ids=[" ".join((name, *more)) for name, more, _ in WRONG])
def test_wrong_command_line_is_2_and_shows_the_usage(command, tmp_path, monkeypatch, subcommand, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*subcommand.split(), *arguments)
    assert code == 2 and out == "" and err.startswith(f"usage: npefficient {subcommand}".rstrip())
    last = err.splitlines()[-1]
    assert message in last and last.startswith(f"npefficient {subcommand}".rstrip() + ": error")
    assert os.listdir(tmp_path) == []


def test_a_wrong_argument_stays_one_line(command):
    _, _, err = command("list", "--\x1b[31m\nred\u202e")
    assert err.splitlines()[-1] == "npefficient list: error: unrecognized arguments: --\\x1b[31m\\nred\\u202e"
