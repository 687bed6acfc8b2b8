for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const head = button.parentElement, up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value;
    const compare = (one, other) => isNaN(one) || isNaN(other) || one === "" || other === "" ? one.localeCompare(other) : one - other;
    const body = table.tBodies[0], rows = [...body.rows].sort((one, other) => compare(value(one), value(other)));
    body.append(...(up ? rows : rows.reverse()));
  }));
}
