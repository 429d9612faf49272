"""`python -m tests.blocks`: list the blocks of code in the documents: which run, which are left out, and why."""

from collections import Counter

from tests.blocks.parsing import blocks, documents


def main() -> None:
    counts: Counter[str] = Counter()
    for document in documents():
        for block in blocks(document):
            if block.left_out:
                verdict, why = "left out", block.left_out
            elif block.runs:
                verdict, why = "runs", "; ".join(f"without: {line.strip()}" for line in block.of_the_host)
            else:
                verdict, why = ("compared" if block.language == "output" else "data"), block.language
            counts[verdict] += 1
            print(f"{block.place:44} {verdict:9} {why}".rstrip())
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))


main()
