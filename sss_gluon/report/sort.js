// Sorts the rows of a table by the column whose head is chosen; a second choice turns the order round.
for (const head of document.querySelectorAll('th')) {
  head.tabIndex = 0;
  head.title = 'sort';
  const number = cell => {
    const found = cell.textContent.replace(/,/g, '').match(/^[+\u2212-]?[\d.]+/);
    const unit = {G: 1e9, M: 1e6}[(cell.textContent.match(/\d ([GM])\b/) || [])[1]] || 1;
    return found ? parseFloat(found[0].replace('\u2212', '-')) * unit : NaN;
  };
  const sort = () => {
    const body = head.closest('table').tBodies[0];
    const up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const rows = [...body.rows].map(row => [row, row.cells[head.cellIndex]]);
    rows.sort(([, a], [, b]) => {
      const x = number(a), y = number(b);
      const order = isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) ||
        a.textContent.localeCompare(b.textContent, undefined, {numeric: true}) : x - y;
      return up ? order : -order;
    });
    for (const [row] of rows) body.append(row);
  };
  head.addEventListener('click', sort);
  head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
}
