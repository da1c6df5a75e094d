// Undo and redo of the user's changes on the page.

let done = [], undone = []; // replaced when the view is left, so that changes still in progress are not added to the new lists
const LIMIT = 200;

/** Applies a change and stores how to revert it. Both functions may be async. Successive changes of one `group` are merged. */
export async function change(apply, revert, { group = null } = {}) {
  const mine = done;
  await apply();
  if (mine !== done) return;
  const before = done.at(-1);
  if (group !== null && before?.group === group && Date.now() - before.at < 1500) Object.assign(before, { apply, at: Date.now() });
  else done.push({ apply, revert, group, at: Date.now() });
  if (done.length > LIMIT) done.shift();
  undone.length = 0;
}

let turn = Promise.resolve();

/** Moves the newest change from one list to the other, after `act(change)`. Moves run one at a time. A failed change is not moved. */
function move(lists, act) {
  const moved = async () => {
    const [from, to] = lists(), item = from.at(-1);
    if (item === undefined) return;
    await act(item);
    if (from.includes(item)) to.push(...from.splice(from.indexOf(item), 1)); // otherwise it has been dropped in the meantime
  };
  return turn = turn.then(moved, moved);
}

export const undo = () => move(() => [done, undone], (item) => item.revert());
export const redo = () => move(() => [undone, done], (item) => item.apply());

/** Forgets all changes when a view is left. */
export function forget() {
  done = [];
  undone = [];
  turn = Promise.resolve(); // so that a change that never ends does not block the next view
}
