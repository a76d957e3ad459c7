// Places of a pair of prompts by name, as they are typed.

/** "S2= John/ Mary, end=-1": names, each with its word or position in the clean prompt, and in the corrupted one where it is another. */
export function readRoles(text: string): { name: string; clean: string | number; corrupted: string | number | null }[] {
  const mark = (word: string): string | number => (/^\s*-?\d+\s*$/.test(word) ? Number(word) : word);
  return text.split(",").filter((role) => role.trim()).map((role) => {
    const [name, marks = ""] = role.split(/=(.*)/s);
    const [clean, corrupted] = marks.split("/").map(mark);
    return { name: name.trim(), clean, corrupted: corrupted ?? null };
  });
}
