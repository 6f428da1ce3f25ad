import { expect, test } from "vitest";
import { aloneIn } from "../src/ui/chart";

test("a value between two gaps is a dot, and those of a line are none", () => {
    expect(aloneIn([null, 1, null, 2, 3, null, undefined, 0])).toEqual([1, 7]);
    expect(aloneIn([5])).toEqual([0]);
    expect(aloneIn([])).toEqual([]);
});
